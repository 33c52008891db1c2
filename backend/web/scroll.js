/** Scrolling: a thread stays at its end unless the reader has scrolled up. */

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content the growing content inside the scroller
 * @param {HTMLElement} button shown while the end is out of sight
 * @returns {() => void} scrolls to the end and stays there
 */
export function stickToEnd(scroller, content, button) {
  let pinned = true;
  const toEnd = () => {
    pinned = true;
    scroller.scrollTop = scroller.scrollHeight;
  };
  const growth = new ResizeObserver(() => pinned && toEnd());
  growth.observe(content);
  growth.observe(scroller);
  scroller.addEventListener("scroll", () => {
    pinned = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
    button.hidden = pinned;
  });
  button.addEventListener("click", toEnd);
  return toEnd;
}
