"""The door to mmcv, mmdet and mmrotate: recipes, weights, inference."""
