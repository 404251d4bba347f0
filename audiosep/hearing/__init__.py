"""What sounds in a recording, and when: tags over time, spans, descriptions, the activity of targets."""
