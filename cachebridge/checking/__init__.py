"""The checks of options, and of what options need; the base that config stands on."""
