"""The built-in rules, one file a rule; reached through the entry-point group `initlint.rules`."""

#: Codes and names that once were rules, and why they are rules no longer. Codes are never reused.
removed: dict[str, str] = {}
