"use strict";

// Swagger UI is started from here, not from the page: the policy forbids inline scripts.
const element = document.getElementById("swagger-ui");

SwaggerUIBundle({
  url: new URL(element.dataset.openapi, document.baseURI).href,
  domNode: element,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // the document is nobody else's business
});
