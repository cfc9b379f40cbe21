"""The SVM's side: its inventory, its keyring on disk, its link to the server."""
