"""Optional integrations, each on top of an adapter; nothing else imports them."""
