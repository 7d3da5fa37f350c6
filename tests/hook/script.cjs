'use strict';
// No server at all: does its work and ends, though it has a channel.
const fs = require('fs');

fs.appendFileSync(process.env.SCRIPT_FILE, `${process.send ? 'channel' : 'none'}\n`);
