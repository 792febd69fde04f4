"""What a run leaves behind: records with everything needed to run it again. Importing this does not import torch."""
