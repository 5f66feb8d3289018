// Texts on the page whose contrast with their ground is below 4.5 : 1 (WCAG 2, AA).
const parse = (text) => {
  const numbers = text.match(/[\d.]+/g).map(Number);
  return { colour: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
};
const luminance = (colour) => {
  const [red, green, blue] = colour.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const { colour, alpha } = parse(getComputedStyle(at).backgroundColor);
    if (alpha > 0.99) return colour;
  }
  return [255, 255, 255];
};
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!hasText || !element.checkVisibility() || element.closest("svg")) continue;
  const [text, behind] = [luminance(parse(getComputedStyle(element).color).colour), luminance(ground(element))];
  const ratio = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
  if (ratio < 4.5) found.push(`${element.tagName}.${element.className} "${element.textContent.slice(0, 30)}" ${ratio.toFixed(2)}`);
}
return found;
