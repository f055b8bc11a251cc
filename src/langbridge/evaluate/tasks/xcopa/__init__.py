"""XCOPA: which of two sentences is the cause or the effect of a third, in eleven languages and English."""
