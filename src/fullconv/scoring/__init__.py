"""The four FCN metrics and per-class IU, from one confusion matrix over a whole data set."""
