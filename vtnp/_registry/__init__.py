"""What a formula is: its registration, its signature, its page, and its errors."""
