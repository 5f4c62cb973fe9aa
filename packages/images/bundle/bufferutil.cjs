// Stands for the package of this name in the pilot's bundle: its native module lies beside the bundle.
module.exports = require("/pilot/bufferutil.node");
