"""Models that the rules are tried on, one file a rule, under the rule's own file name."""
