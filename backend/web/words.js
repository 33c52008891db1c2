/** Describes in words what a tool call does with documents. */

/** @typedef {Record<string, unknown>} Values the members of a JSON object */

/** @param {unknown} value */
const quoted = (value) => `“${String(value ?? "")}”`;

/** @param {number} count @param {string} noun */
const counted = (count, noun) => (count ? `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}` : `no ${noun}`);

/** @param {unknown} list @param {string} noun */
const found = (list, noun) => (Array.isArray(list) ? ` (${counted(list.length, noun)})` : "");

/** For each tool, a function that describes what a call does or, once it has a result, what the call did. @type {Record<string, (given: Values, result: Values | null) => string>} */
const WORDS = {
  search_documents: (given, result) => `${result ? "Searched" : "Searching"} your documents: ${quoted(given.query)}${found(result?.passages, "passage")}`,
  list_documents: (_, result) => `${result ? "Looked" : "Looking"} through your documents${found(result?.documents, "document")}`,
  read_document: (given, result) => `${result ? "Read" : "Reading"} ${result?.filename ? quoted(result.filename) : `document ${given.document_id}`}, from page ${given.page ?? 1}`,
  add_document: (given, result) => `${result ? "Added" : "Adding"} the document ${quoted(given.title)}`,
  create_tasks_from_document: (given, result) => tasksFrom(given, result),
  search: (given, result) => `${result ? "Searched" : "Searching"} your documents and tasks: ${quoted(given.query)}${found(result?.results, "result")}`,
};

/** @param {Values} given @param {Values | null} result */
function tasksFrom(given, result) {
  const doing = given.dry_run === false ? ["Creating tasks", "Created tasks"] : ["Looking for tasks", "Looked for tasks"];
  const where = given.dry_run === false ? "from" : "in";
  return `${doing[result ? 1 : 0]} ${where} document ${given.document_id}${found(result?.tasks, "task")}`;
}

/**
 * Return what a call does, as part of a sentence, or null if the tool's name is clear enough.
 * @param {string} name
 * @param {Values | null} given the call's arguments
 * @param {unknown} [result] missing while the call runs and after it failed
 */
export function inWords(name, given, result) {
  return Object.hasOwn(WORDS, name) ? WORDS[name](given ?? {}, parsed(result)) : null;
}

/** @param {unknown} result an object, or an object as JSON @returns {Values | null} */
export function parsed(result) {
  try {
    const value = typeof result === "string" ? JSON.parse(result) : result;
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}
