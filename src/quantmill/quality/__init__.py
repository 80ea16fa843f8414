"""How far a file is from its base, on a text and by tensor; gates, report and pictures."""
