"""From logs to a bundle that may be signed: teachers, students, conversion, quantization, gates."""
