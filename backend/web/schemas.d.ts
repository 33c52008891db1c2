/**
 * The server's data, as far as the page reads it. The API's own description also has the types in the first part of this
 * file. A test compares the names, and which values may be null.
 */

export interface SignedIn {
  token: string;
  user: UserSeen;
  expires_at: string | null;
}

export interface UserSeen {
  id: string;
  name: string;
  kind: string;
  time_zone: string;
}

export interface Me extends UserSeen {
  model_notice: ModelNotice | null;
}

export interface ModelNotice {
  detail: string;
  /** RFC 3339. */
  until: string;
}

export interface TasksListed {
  tasks: TaskSeen[];
  next_cursor: string | null;
}

export interface TaskSeen {
  id: number;
  title: string;
  completed: boolean;
  /** A full date or a date-time. */
  due: string | null;
  priority: "none" | "low" | "medium" | "high";
  tags: string[];
}

export interface DocumentsListed {
  documents: DocumentSeen[];
  next_cursor: string | null;
}

export interface DocumentSeen {
  id: number;
  filename: string;
  /** In bytes. */
  file_size: number;
  status: "pending" | "processing" | "ready" | "failed";
  /** Why the document failed. */
  reason: string | null;
  pages: number | null;
  /** Whether the document has pages that people know. Otherwise its pages are parts of the text. */
  has_pages: boolean;
  progress: Progress;
  created_at: string;
}

export interface Progress {
  stage: "waiting" | "reading" | "indexing" | "done" | "failed";
  done: number;
  total: number | null;
}

export interface PageSeen {
  filename: string;
  page_number: number;
  pages: number;
  text: string;
  is_scanned: boolean;
}

export interface PassageOnPage extends PageSeen {
  /** In code points of the page's text. */
  start: number;
  end: number;
}

export interface ConversationsListed {
  conversations: ConversationSeen[];
  next_cursor: string | null;
}

export interface ConversationSeen {
  id: number;
  title: string;
  updated_at: string;
}

export interface ConversationWithMessages extends ConversationSeen {
  messages: MessageSeen[];
}

export interface MessageSeen {
  role: "user" | "assistant";
  content: string;
  run_id: string | null;
  model: string | null;
  tool_calls: ToolCallSeen[];
  citations: Citation[];
}

export interface ToolCallSeen {
  name: string | null;
  arguments: Record<string, unknown> | null;
  result: unknown;
  is_error: boolean | null;
}

export interface RunSeen {
  status: string;
  error: Failure | null;
}

export interface Undone {
  rows: RowUndone[];
}

export interface RowUndone {
  kind: "task" | "document" | "conversation";
  id: number;
  /** A document has no title here. */
  title: string | null;
  change: "restored" | "changed back" | "removed";
}

// What the API's description leaves open.

/** The body of an error answer. */
export interface Problem {
  title?: string;
  detail?: string;
  code?: string;
}

/** Why a run has no complete answer. */
export interface Failure {
  detail: string;
}

/** A mark in an answer, with the words that support it. */
export interface Citation {
  /** Such as "[p12]". */
  mark: string;
  passage_id: number;
  document_id: number;
  filename: string;
  page_number: number | null;
  quote: string;
  /** In code points of the page's text. */
  start: number;
  end: number;
}

export interface ToolCall {
  call_id: string | number;
  name: string | null;
  arguments: Record<string, unknown> | null;
}

export interface ToolResult {
  call_id: string | number;
  result: unknown;
  is_error: boolean | null;
}

export interface RunStarted {
  run_id: string;
  conversation_id: number;
  model: string;
  model_notice?: ModelNotice;
}

/** The end of a run. A run that does not exist has only an id, a status and an error. */
export interface RunEnded {
  status: "completed" | "failed" | "cancelled";
  response?: string;
  citations?: Citation[];
  model?: string;
  error: Failure | null;
}

interface Kinds {
  run: RunStarted;
  text: { delta: string; offset: number };
  tool_call: ToolCall;
  tool_result: ToolResult;
  approval: object;
  citation: Citation;
  reset: { offset: number };
  error: Failure;
  done: RunEnded;
  reconnect: object;
}

/** One event of a run. A stored event's id is its number, from 1. An event that is only live has the id null. */
export type RunEvent = { [Name in keyof Kinds]: { id: number | null; name: Name; data: Kinds[Name] } }[keyof Kinds];
