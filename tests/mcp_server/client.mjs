// Lists the tools, adds a task and lists the tasks with the TypeScript SDK, and prints what came back as one JSON object.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const { url, token, ...command } = JSON.parse(process.argv[2]);
const transport = url
  ? new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } })
  : new StdioClientTransport(command);
const client = new Client({ name: "typescript", version: "1.0.0" });

await client.connect(transport);
const { tools } = await client.listTools();
const added = await client.callTool({ name: "add_task", arguments: { title: "Milk 🥛", due: "tomorrow" } });
const listed = await client.callTool({ name: "list_tasks", arguments: {} });
const refused = await client.callTool({ name: "get_task", arguments: { task_id: 999 } });
await client.close();

console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), added, listed, refused }));
