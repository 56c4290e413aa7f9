"""What users of Composer bring along."""
