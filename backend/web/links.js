/** Links to one thing of the user's, as the tools `search` and `fetch` give them to other clients. */

/** @typedef {{kind: "document" | "task", id: number, page: number}} Link */

/** What the address links to, or null. @returns {Link | null} */
export function linkInAddress() {
  const match = /^#(document|task)-(\d{1,9})(?:-page-(\d{1,9}))?$/.exec(location.hash);
  if (!match || (match[1] === "task" && match[3])) return null;
  return { kind: /** @type {Link["kind"]} */ (match[1]), id: Number(match[2]), page: Number(match[3] ?? 1) };
}
