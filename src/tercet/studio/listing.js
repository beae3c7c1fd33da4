// Tells of a row that is clicked; sorts and filters, and keeps to both when the table is made anew.
let column = -1, down = false, wanted = "";
const number = text => text === "" ? NaN : Number(text);
const compare = (a, b) => {
  const difference = number(a) - number(b);
  return isNaN(difference) ? a.localeCompare(b) : difference;
};
const arrange = () => {
  const body = element.querySelector(".sorts tbody");
  if (!body) return;
  const rows = [...body.rows];
  if (column >= 0) {
    const text = row => row.cells[column].textContent;
    rows.sort((a, b) => compare(text(a), text(b)) * (down ? -1 : 1));
    body.append(...rows);
  }
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  element.querySelectorAll("th").forEach((head, place) =>
    head.setAttribute("aria-sort", place !== column ? "none" : down ? "descending" : "ascending"));
  element.querySelector("input").value = wanted;
};
element.addEventListener("input", event => {
  wanted = event.target.value.toLowerCase();
  arrange();
});
element.addEventListener("click", event => {
  const head = event.target.closest("th"), row = event.target.closest("tbody tr");
  if (head && head.closest(".sorts")) {
    down = column === head.cellIndex && !down;
    column = head.cellIndex;
    arrange();
  } else if (row) {
    trigger("select", {id: row.cells[0].textContent});
  }
});
watch("value", arrange);
