/** Show the API's description with the vendored Swagger UI. */

// The validator's badge would send the address of this server to another host.
/** @type {any} */ (window).SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null });
