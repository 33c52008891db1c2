/** Links to one of the user's documents or tasks. The tools `search` and `fetch` return such links to other clients. */

/** @typedef {{kind: "document" | "task", id: number, page: number}} Link */

/** Return the link in the page's address, or null. @returns {Link | null} */
export function linkInAddress() {
  const match = /^#(document|task)-(\d{1,9})(?:-page-(\d{1,9}))?$/.exec(location.hash);
  if (!match || (match[1] === "task" && match[3])) return null;
  return { kind: /** @type {Link["kind"]} */ (match[1]), id: Number(match[2]), page: Number(match[3] ?? 1) };
}
