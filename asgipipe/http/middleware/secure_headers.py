"""Security headers: made once when the application is built, and given to every answer by its exchange."""

from asgipipe.http.exchange import DefaultHeaders
from asgipipe.settings import SecureHeadersConfig

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

# The values follow the OWASP Secure Headers Project. HSTS leaves out includeSubDomains: a deployment may be one path of
# a host, whose other subdomains are not ours to decide about.
_HEADERS = {
    "hsts": (b"strict-transport-security", "max-age=31536000"),
    "xfo": (b"x-frame-options", "DENY"),
    "content": (b"x-content-type-options", "nosniff"),
    "csp": (b"content-security-policy", CONTENT_SECURITY_POLICY),
    "referrer": (b"referrer-policy", "no-referrer"),
    "cache": (b"cache-control", "no-store"),
    "permissions": (
        b"permissions-policy",
        "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()",
    ),
    "server": (b"server", "asgipipe"),
}


def secure_headers(config: SecureHeadersConfig) -> DefaultHeaders:
    """Return the headers that `config` asks for."""
    chosen = []
    for field, (name, default) in _HEADERS.items():
        value: bool | str = getattr(config, field)
        if value is not False:
            chosen.append((name, (default if value is True else value).encode("latin-1")))
    return DefaultHeaders(chosen)
