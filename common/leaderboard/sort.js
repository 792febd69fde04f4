// A click on a head sorts by that column; undefined numbers stay last.
for (const head of document.querySelectorAll("th")) {
  head.addEventListener("click", () => {
    const table = head.closest("table");
    const rows = [...table.tBodies[0].rows];
    const up = head.dataset.up !== "yes";
    const key = (row) => row.cells[head.cellIndex].textContent;
    rows.sort((a, b) => {
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      if (isNaN(x) && isNaN(y)) return up ? key(a).localeCompare(key(b)) : key(b).localeCompare(key(a));
      if (isNaN(x) || isNaN(y)) return isNaN(x) ? 1 : -1;
      return up ? x - y : y - x;
    });
    head.dataset.up = up ? "yes" : "no";
    table.tBodies[0].append(...rows);
  });
}
