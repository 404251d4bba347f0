"""Songs by our own code: composed, played on recorded instruments, sung by recorded voices, mixed and mastered."""
