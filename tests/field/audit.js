// Checks of WCAG 2.2 AA that need no judgement: names, roles, headings, ids, contrast, sizes. Returns what is wrong.
() => {
  const wrong = [];
  const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && !element.closest(".unseen, .skip, dialog:not([open])");
  const say = (rule, element) => wrong.push(`${rule}: ${element.outerHTML.slice(0, 120)}`);

  if (!document.documentElement.lang) wrong.push("no language");
  if (document.querySelectorAll("main").length !== 1) wrong.push("not one main");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`id twice: ${id}`);
  for (const attribute of ["aria-labelledby", "for", "list"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      if (!document.getElementById(element.getAttribute(attribute))) say(`${attribute} names nothing`, element);
    }
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!visible(heading)) continue;
    const own = Number(heading.tagName[1]);
    if (own > level + 1) say("a level of headings is left out", heading);
    level = own;
  }
  for (const control of document.querySelectorAll("button, input, summary, a[href]")) {
    const name = control.getAttribute("aria-label") || control.innerText?.trim()
      || [...(control.labels ?? [])].map((label) => label.textContent).join("");
    if (!name && visible(control)) say("no name", control);
  }
  for (const section of document.querySelectorAll("section, nav, dialog")) {
    if (!section.hasAttribute("aria-labelledby") && !section.hasAttribute("aria-label")) say("no name", section);
  }
  for (const image of document.querySelectorAll("img:not([alt])")) say("no alternative text", image);
  for (const list of document.querySelectorAll("ul, ol")) {
    for (const child of list.children) if (child.tagName !== "LI") say("not an entry of a list", child);
  }
  for (const button of document.querySelectorAll("button, summary, input")) {
    if (!visible(button)) continue;
    const box = button.getBoundingClientRect();
    const around = button.closest(".card, .row") && button.classList.contains("look"); // the whole card can be clicked
    const inText = button.tagName === "SUMMARY"; // WCAG 2.5.8 leaves out targets in a line of text
    if (!around && !inText && (box.width < 24 || box.height < 24)) say(`smaller than 24 px (${box.width} x ${box.height})`, button);
  }

  // Contrast: every text against the nearest opaque background.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const pixel = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = pixel(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.textContent.trim() || !visible(element) || element.closest("script, noscript")) continue;
    const [one, two] = [light(pixel(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, element);
  }
  return [...new Set(wrong)];
}
