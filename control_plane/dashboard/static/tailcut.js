// What pages gain from a script; each works without it. Loaded once; pages that htmx brings are seen through its event.
"use strict";
(() => {
  const enhance = (root) => {
    for (const button of root.querySelectorAll("button.copy[hidden]")) {
      if (!navigator.clipboard) continue; // plain http: the text can be selected
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.dataset.copy);
        const label = button.textContent;
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = label; }, 1500);
      });
    }
    // What takes its time says so on its button, once.
    for (const button of root.querySelectorAll("button[data-busy]")) {
      button.form.addEventListener("submit", () => { button.textContent = button.dataset.busy; }, { once: true });
    }
    // The theme's form comes back to the page that it is on.
    for (const input of root.querySelectorAll("form[data-return] input[name=next]")) {
      input.value = location.pathname + location.search;
    }
  };
  // On a narrow screen the tab that is shown may lie beyond the edge of its row.
  const revealTab = () => {
    const tab = document.querySelector(".page-tabs [aria-current]");
    const row = tab?.closest(".page-tabs");
    if (row) row.scrollLeft = tab.offsetLeft - row.offsetLeft - (row.clientWidth - tab.offsetWidth) / 2;
  };
  document.addEventListener("htmx:load", (event) => enhance(event.detail.elt));
  // After a page came by htmx the focus goes where a full load would put it: the marked field, else the content.
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target !== document.body) return;
    if (!location.hash) scrollTo(0, 0);
    (document.querySelector("[autofocus]") || document.getElementById("main"))?.focus({ preventScroll: true });
    for (const menu of document.querySelectorAll("details.menu")) menu.open = false;
    revealTab();
  });
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
    if (menu) { menu.open = false; menu.querySelector("summary").focus(); }
  });
  enhance(document);
  revealTab();
})();
