/** Polls the server: less and less often while nothing changes, and only while the page is visible. */

const SHORTEST = 600;
const LONGEST = 8_000;

/**
 * @param {{ids: () => number[], look: (id: number) => Promise<boolean>}} what `ids` returns what to poll; `look` polls one id and returns whether it changed
 */
export function createPolling({ ids, look }) {
  let timer = 0;
  let delay = SHORTEST;
  let isLooking = false;

  async function lookAtAll() {
    timer = 0;
    isLooking = true;
    const changes = [];
    for (const id of ids()) changes.push(await look(id).catch(() => false));
    isLooking = false;
    delay = changes.some(Boolean) ? SHORTEST : Math.min(delay * 1.6, LONGEST);
    plan();
  }

  function plan() {
    if (timer || isLooking || document.hidden || !ids().length) return;
    timer = setTimeout(lookAtAll, delay);
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
  }

  /** Start again with short waits. */
  function start() {
    delay = SHORTEST;
    stop();
    plan();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  window.addEventListener("online", start);
  return { start, stop };
}
