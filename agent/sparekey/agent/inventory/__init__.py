"""What an SVM protects and runs on, and where the agent learns it from."""
