"""Activation tasks: how they start, what becomes of each SVM, and how they end."""
