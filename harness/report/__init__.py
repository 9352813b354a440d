"""What a report says, and every form in which it is written."""
