// Runs a firmware image on rp2040js and gives its USB serial port as a TCP port.
//
//   node simulate.mjs FIRMWARE BOOTROM [DATA OFFSET]...
//
// Prints "listening on PORT". DATA is put into flash at OFFSET. Flash lives as long as this program;
// a reset of the chip starts it anew.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { ConsoleLogger, LogLevel, RP2040, USBCDC } from './rp2040js/dist/esm/index.js';

const INSTRUCTIONS = 50000; // between looks at the socket
const AHEAD = 5; // milliseconds that an idle chip may be ahead of the clock on the wall

const [firmware, bootrom, ...data] = process.argv.slice(2);
let flash = null;
let socket = null;
let received = []; // from the host, not yet taken by the chip
let room = 0; // what the chip would take now
let chip = null;
let sleeper = null;
let nanos = 0; // of an instruction's cycle
let wall = { at: performance.now(), clock: 0 };

function start() {
  chip = new RP2040();
  chip.logger = new ConsoleLogger(LogLevel.Error);
  chip.loadBootrom(new Uint32Array(new Uint8Array(readFileSync(bootrom)).slice(0, 16384).buffer));
  if (flash) {
    chip.flash.set(flash);
  } else {
    chip.flash.set(readFileSync(firmware));
    for (let i = 0; i < data.length; i += 2) {
      chip.flash.set(readFileSync(data[i]), Number(data[i + 1]));
    }
  }
  flash = chip.flash;
  nanos = 1e9 / chip.clkSys;
  chip.addClockListener((frequency) => {
    nanos = 1e9 / frequency;
  });
  chip.peripherals[0x40058].onWatchdogTrigger = () => {
    chip = null; // started again when this slice ends
  };
  room = 0;
  const usb = chip.usbCtrl;
  const cdc = new USBCDC(usb);
  cdc.onSerialData = (bytes) => socket?.write(bytes);
  // The one that comes with the simulator answers at once with nothing, again and again.
  usb.onEndpointRead = (endpoint, size) => {
    if (endpoint === cdc.outEndpoint) {
      room = size;
      give(cdc);
    }
  };
  chip.give = () => give(cdc);
  wall = { at: performance.now(), clock: 0 };
}

function give(cdc) {
  if (room > 0 && received.length > 0) {
    const size = Math.min(room, received.length);
    room = 0;
    cdc.usb.endpointReadDone(cdc.outEndpoint, Uint8Array.from(received.slice(0, size)));
    received = received.slice(size);
  }
}

function run() {
  sleeper = null;
  const { core, clock } = chip;
  for (let i = 0; i < INSTRUCTIONS && chip; ++i) {
    if (core.waiting) {
      clock.tick(clock.nanosToNextAlarm);
      i += 100;
    } else {
      clock.tick(core.executeInstruction() * nanos);
    }
  }
  if (!chip) {
    start();
  }
  const now = performance.now();
  const ahead = (chip.clock.nanos - wall.clock) / 1e6 - (now - wall.at);
  if (ahead < 0) {
    wall = { at: now, clock: chip.clock.nanos };
  }
  if (ahead > AHEAD) {
    sleeper = setTimeout(run, Math.min(ahead, 50));
  } else {
    setImmediate(run);
  }
}

const server = createServer({ noDelay: true }, (client) => {
  if (socket) {
    client.destroy(); // a serial port has one user
    return;
  }
  socket = client;
  client.on('error', () => {});
  client.on('close', () => {
    socket = null;
  });
  client.on('data', (bytes) => {
    for (const byte of bytes) {
      received.push(byte);
    }
    chip?.give();
    if (sleeper) {
      clearTimeout(sleeper);
      run();
    }
  });
});

start();
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on ${server.address().port}`);
  run();
});
