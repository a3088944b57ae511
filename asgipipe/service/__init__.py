"""The deployment service: it runs pipelines and reports on them, and knows nothing of HTTP."""
