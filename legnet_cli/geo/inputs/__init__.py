"""Which rasters the arguments of a command mean, and what tells whether one of them has changed."""

from legnet_cli.geo.inputs.expand import RASTER_SUFFIXES as RASTER_SUFFIXES
from legnet_cli.geo.inputs.expand import expand_scenes as expand_scenes
from legnet_cli.geo.inputs.expand import find_scenes as find_scenes
from legnet_cli.geo.inputs.names import gdal_path as gdal_path
from legnet_cli.geo.inputs.names import is_local as is_local
from legnet_cli.geo.inputs.names import is_remote as is_remote
from legnet_cli.geo.inputs.names import url_of as url_of
from legnet_cli.geo.inputs.stamps import find_stamps as find_stamps
from legnet_cli.geo.inputs.stamps import local_stamp as local_stamp
