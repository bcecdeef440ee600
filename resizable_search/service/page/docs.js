// Swagger UI over the service's own description; what it shows is tried out against this very service.
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
