"""Whether all text of a page can be read: WCAG 2.2, 1.4.3 (AA), light and dark, by the colours the browser computed.

``faults`` is called by the keyboard walk for every page and by ``screenshots``. Text is everything that is drawn: text
nodes, what fields and their placeholders say, labels of charts. Its background is what the elements below it give
together, transparency and opacity included; who is disabled is exempt, as the standard says. What it cannot see: text
on pictures, of which there are none.
"""

from typing import Any, Final

from playwright.sync_api import Page

THEMES: Final = ("light", "dark")
TEXT_MIN: Final = 4.5
LARGE_MIN: Final = 3.0
"""From 24 px, or 18.66 px in bold."""
_LOOK: Final = """({ textMin, largeMin }) => {
  // A change of theme starts transitions: what counts is where they end.
  for (const each of document.getAnimations()) each.finish();
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  // Whatever way a colour is written (oklch, color-mix, names), the canvas makes numbers of it.
  const numbers = (colour) => {
    if (!known.has(colour)) {
      const plain = /^rgba?\\(([\\d.]+), ([\\d.]+), ([\\d.]+)(?:, ([\\d.]+))?\\)$/.exec(colour);
      if (plain) known.set(colour, [+plain[1], +plain[2], +plain[3], plain[4] === undefined ? 1 : +plain[4]]);
      else {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
        known.set(colour, [red, green, blue, alpha / 255]);
      }
    }
    return known.get(colour);
  };
  const over = (above, below, opacity = 1) => {
    const alpha = above[3] * opacity;
    return [0, 1, 2].map((part) => above[part] * alpha + below[part] * (1 - alpha)).concat(1);
  };
  const bright = (colour) => {
    const [red, green, blue] = colour.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const paper = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const grounds = new Map();
  // What is below the text of an element, and how opaque all of it is.
  const ground = (each) => {
    if (!each) return { colour: paper, opacity: 1 };
    if (!grounds.has(each)) {
      const below = ground(each.parentElement);
      const style = getComputedStyle(each);
      const opacity = below.opacity * style.opacity;
      grounds.set(each, { colour: over(numbers(style.backgroundColor), below.colour, opacity), opacity });
    }
    return grounds.get(each);
  };
  const low = new Map();
  const judge = (each, colour, style, text) => {
    const { colour: back, opacity } = ground(each);
    const front = over(numbers(colour), back, opacity);
    const [lighter, darker] = [bright(front), bright(back)].sort((one, other) => other - one);
    const ratio = (lighter + 0.05) / (darker + 0.05);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? largeMin : textMin;
    if (ratio >= wanted - 0.005) return;
    const about = `${each.localName}${each.classList.length ? "." + [...each.classList].join(".") : ""}`;
    const key = `${about} ${colour} ${back}`;
    const said = text.trim().replace(/\\s+/g, " ").slice(0, 40);
    if (!low.has(key)) low.set(key, `${ratio.toFixed(2)} of ${wanted} in ${about}: ${said}`);
  };
  const isDrawn = (each) => {
    if (!each.checkVisibility({ visibilityProperty: true }) || each.closest(":disabled, [aria-disabled=true]"))
      return false;
    const box = each.getBoundingClientRect();
    return box.width > 1 && box.height > 1;  // one pixel: for screen readers only
  };
  let count = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const each = node.parentElement;
    if (!node.data.trim() || seen.has(each) || each.closest("script, style, option, textarea, noscript, title, desc"))
      continue;
    seen.add(each);
    if (!isDrawn(each)) continue;
    const style = getComputedStyle(each);
    judge(each, each.closest("svg") ? style.fill : style.color, style, node.data);
    count++;
  }
  const fields = "input:not([type=hidden], [type=radio], [type=checkbox]), textarea, select";
  for (const each of document.querySelectorAll(fields)) {
    if (!isDrawn(each)) continue;
    const style = getComputedStyle(each);
    judge(each, style.color, style, each.value || each.name);
    if (each.placeholder) judge(each, getComputedStyle(each, "::placeholder").color, style, each.placeholder);
    count++;
  }
  return { count, low: [...low.values()] };
}"""


def faults(page: Page) -> list[str]:
    """Of the page that is open, in both themes; it is left in the light one."""
    found = []
    for theme in reversed(THEMES):
        page.emulate_media(color_scheme=theme)
        told: dict[str, Any] = page.evaluate(_LOOK, {"textMin": TEXT_MIN, "largeMin": LARGE_MIN})
        if not told["count"]:
            found.append(f"no text to read in {theme}")
        found += [f"contrast, {theme}: {each}" for each in told["low"]]
    return found
