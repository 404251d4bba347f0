"""Training of the text tower and the audio tower of the embedded CLAP."""
