"""The operator's page, one text for Django's admin and Flask.  Internal.

``docs/admin-page.md`` shows it.
"""
