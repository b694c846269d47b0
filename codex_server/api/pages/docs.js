"use strict";
// Swagger UI shows the document of this server; a token that is typed in stays in this page.

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

async function show() {
  const answer = await fetch("openapi.json");
  const spec = await answer.json();
  // Requests go where this page came from, by whatever name and port; the policy allows nothing else.
  spec.servers = [{ url: new URL(".", location.href).href.replace(/\/$/, "") }];
  SwaggerUIBundle({
    spec,
    dom_id: "#viewer",
    deepLinking: true,
    defaultModelExpandDepth: 4,
    defaultModelsExpandDepth: -1,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
}

show().catch((error) => {
  document.getElementById("viewer").textContent = "The document could not be loaded: " + error.message;
});
