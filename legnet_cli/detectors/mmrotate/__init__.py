"""The only place that imports mmcv, mmdet and mmrotate."""
