"""The program `sparekey-simulate`: many SVMs in one process, each with the real agent."""
