"""DeAOT, the base tracker of HQ-SMem: network, training and weights."""
