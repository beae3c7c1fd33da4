// Tells of a row that is clicked; sorts, filters and cuts, and keeps to all when the table is made anew.
let column = -1, down = false, wanted = "", all = false;
const number = text => text === "" ? -Infinity : Number(text);
const arrange = () => {
  const body = element.querySelector(".sorts tbody");
  if (!body) return;
  const rows = [...body.rows];
  if (column >= 0) {
    const text = row => row.cells[column].textContent, way = down ? -1 : 1;
    const inWords = rows[0]?.cells[column].classList.contains("text");
    rows.sort((a, b) => way * (inWords
      ? text(a).localeCompare(text(b), undefined, {numeric: true})
      : number(text(a)) - number(text(b)) || 0));
    body.append(...rows);
  }
  const words = wanted.toLowerCase();
  const found = words ? rows.filter(row => row.textContent.toLowerCase().includes(words)) : rows;
  const shown = new Set(all ? found : found.slice(0, element.querySelector(".sorts").dataset.shown));
  for (const row of rows) row.hidden = !shown.has(row);
  const more = element.querySelector("button.all");
  more.hidden = shown.size === found.length;
  more.textContent = `show all ${found.length.toLocaleString("en")}`;
  element.querySelectorAll("th").forEach((head, place) =>
    head.setAttribute("aria-sort", place !== column ? "none" : down ? "descending" : "ascending"));
  const field = element.querySelector("input");
  if (field.value !== wanted) field.value = wanted;
};
element.addEventListener("input", event => {
  wanted = event.target.value;
  arrange();
});
element.addEventListener("click", event => {
  const head = event.target.closest("th"), row = event.target.closest("tbody tr");
  if (head && head.closest(".sorts")) {
    down = column === head.cellIndex && !down;
    column = head.cellIndex;
    arrange();
  } else if (event.target.closest("button.all")) {
    all = true;
    arrange();
  } else if (row) {
    trigger("select", {id: row.cells[0].textContent});
  }
});
watch("value", arrange);
arrange(); // a table that was there before its tab was opened
