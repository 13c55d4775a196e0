// What a page gains with a script; it works without. "/" goes to the search, one box selects all, the overview follows.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    document.getElementById("q").focus();
  }
});
for (const all of document.querySelectorAll("input[data-all]")) {
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = all.checked;
  });
}
if (document.querySelector("[data-follow]")) setTimeout(() => location.reload(), 10000);
