"""Models behind one small interface: `LitellmChat.stream`. Only workers import this package."""
