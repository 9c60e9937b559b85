// Terms, explained where they stand: hovering, focusing or tapping one shows what it means.

function terms() {
  for (const word of document.querySelectorAll(".term")) {
    const told = word.title;
    word.removeAttribute("title"); // one explanation, not two
    word.setAttribute("aria-description", told);
    const show = () => {
      const box = word.getBoundingClientRect();
      tip({ clientX: box.left - 8, clientY: box.bottom - 12 }, word.textContent, [["means", told]]);
    };
    for (const name of ["mouseenter", "focus", "click"]) word.addEventListener(name, show);
    for (const name of ["mouseleave", "blur"]) word.addEventListener(name, untip);
    word.addEventListener("keydown", (event) => event.key === "Escape" && untip());
  }
}
