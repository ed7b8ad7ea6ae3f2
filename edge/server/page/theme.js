/** Light or dark as it was chosen, before anything is painted; read by the style sheet as data-theme. */
(() => {
  try {
    const chosen = JSON.parse(localStorage.getItem("edge.settings") ?? "{}").theme;
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is closed or its content is not ours: as the device has it.
  }
})();
