// Sorts, filters, hides and copies the table of results. Everything can be read without it.
"use strict";
(() => {
  const table = document.querySelector("table.results");
  const tools = document.querySelector(".tools");
  const minus = (text) => text.replaceAll("\u2212", "-");

  function openTarget() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  }
  addEventListener("hashchange", openTarget);
  openTarget();
  addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const target = link && document.getElementById(link.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  });
  addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest(".menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open]):not(.menu)")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
  if (!table || !tools) return;

  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("thead th[data-column]")];
  const groups = [...table.querySelectorAll("thead th[data-group]")];
  const status = tools.querySelector("[role=status]");
  const filter = tools.querySelector("input[type=search]");
  const choice = tools.querySelector("select");
  const rows = () => [...body.rows];
  const cellOf = (row, column) => row.querySelector(`[data-column="${column}"]`);
  const value = (cell) => (cell.querySelector(".value") || cell).textContent.trim();

  // sort
  const number = (text) => {
    const found = minus(text).match(/^[+-]?\d*\.?\d+/);
    return found ? Number(found[0]) : null;
  };
  function compare(a, b, column, sign) {
    const [x, y] = [a, b].map((row) => value(cellOf(row, column)));
    const [p, q] = [number(x), number(y)];
    if (p !== null && q !== null) return sign * (p - q);
    if (p !== null || q !== null) return p === null ? 1 : -1; // cells without a number stay below
    return sign * x.localeCompare(y);
  }
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      body.append(...rows().sort((a, b) => compare(a, b, head.dataset.column, sign)));
      status.textContent = `Sorted by ${nameOf(head)}, ${head.getAttribute("aria-sort")}.`;
    });
  }

  // filter
  function applyFilter() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows()) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && (!choice.value || row.dataset.outcome === choice.value));
    }
    const shown = rows().filter((row) => !row.hidden).length;
    status.textContent = `${shown} of ${rows().length} rows are shown.`;
  }
  filter.addEventListener("input", applyFilter);
  choice.addEventListener("change", applyFilter);
  for (const outcome of new Set(rows().map((row) => row.dataset.outcome))) choice.add(new Option(outcome, outcome));

  // hide columns
  const nameOf = (head) => head.dataset.name || head.textContent.trim();
  function showColumn(column, isShown) {
    for (const cell of table.querySelectorAll(`[data-column="${column}"]`)) cell.hidden = !isShown;
    for (const group of groups) {
      const span = heads.filter((head) => head.dataset.of === group.dataset.group && !head.hidden).length;
      group.hidden = span === 0;
      group.colSpan = Math.max(span, 1);
    }
  }
  const list = tools.querySelector(".menu div");
  for (const head of heads.slice(1)) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => showColumn(head.dataset.column, box.checked));
    label.append(box, ` ${nameOf(head)}`);
    list.append(label);
  }

  // copy what is shown
  function collect() {
    const shown = heads.filter((head) => !head.hidden);
    const parts = (cell) => [value(cell), (cell.querySelector(".around") || { textContent: "" }).textContent.trim()];
    const lines = rows()
      .filter((row) => !row.hidden)
      .map((row) => shown.map((head) => parts(cellOf(row, head.dataset.column))));
    return { names: shown.map(nameOf), lines };
  }
  const quote = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  // an apostrophe keeps a spreadsheet from computing a text; numbers stay numbers
  const isNumber = (text) => /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text);
  const defuse = (text) => (/^[=+\-@\t\r\n]/.test(text) && !isNumber(text) ? `'${text}` : text);
  const inMarkdown = (text) => text.replace(/[\\`*_|<>[\]]/g, "\\$&");
  const special = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" };
  const symbols = { "\u2212": "$-$", "\u00b1": "$\\pm$", "\u2265": "$\\geq$", "\u03b4": "$\\delta$", "\u2013": "--" };
  const inLatex = (text) =>
    text
      .replace(/[\\~^]|[&%$#_{}]/g, (found) => special[found] || `\\${found}`)
      .replace(/[\u2212\u00b1\u2265\u03b4\u2013]/g, (found) => symbols[found]);
  const writers = {
    Markdown({ names, lines }) {
      const line = (cells) => `| ${cells.map(inMarkdown).join(" | ")} |`;
      const rule = names.map((_, index) => (index ? "---:" : ":---"));
      return [line(names), `| ${rule.join(" | ")} |`, ...lines.map((cells) => line(cells.map((c) => c.join(" ").trim())))].join("\n");
    },
    LaTeX({ names, lines }) {
      const end = " \\\\";
      const cell = ([first, around]) => inLatex(first) + (around ? ` {\\scriptsize ${inLatex(around)}}` : "");
      return [
        `\\begin{tabular}{l${"r".repeat(names.length - 1)}}`,
        "\\toprule",
        names.map(inLatex).join(" & ") + end,
        "\\midrule",
        ...lines.map((cells) => cells.map(cell).join(" & ") + end),
        "\\bottomrule",
        "\\end{tabular}",
      ].join("\n");
    },
    CSV({ names, lines }) {
      const hasAround = names.map((_, index) => lines.some((cells) => cells[index][1]));
      const wide = (cells) => cells.flatMap(([first, around], i) => (hasAround[i] ? [first, around] : [first]));
      const head = names.flatMap((name, index) => (hasAround[index] ? [name, `${name}, interval`] : [name]));
      return [head, ...lines.map(wide)].map((cells) => cells.map((cell) => quote(defuse(minus(cell)))).join(",")).join("\n");
    },
  };
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      return isCopied;
    }
  }
  for (const button of tools.querySelectorAll("button[data-format]")) {
    button.addEventListener("click", async () => {
      const format = button.dataset.format;
      const isCopied = await copy(writers[format](collect()) + "\n");
      button.focus();
      status.textContent = isCopied ? `Copied the shown table as ${format}.` : "This browser does not let a page copy.";
    });
  }
  tools.hidden = false;

  // say that the table scrolls where it does
  const region = table.closest(".scroll");
  const hint = document.querySelector(".hint");
  const watcher = new ResizeObserver(() => {
    hint.hidden = region.scrollWidth <= region.clientWidth;
  });
  watcher.observe(region);
  watcher.observe(table);
})();
