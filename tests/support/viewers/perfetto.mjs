// Loads a trace by Perfetto's trace processor, as ui.perfetto.dev does in a worker, and prints what SQL queries give.
// node perfetto.mjs TRACE FOLDER QUERY…; FOLDER holds Perfetto's engine_bundle.js and trace_processor.wasm.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInThisContext } from 'node:vm'
import protobuf from 'protobufjs'

const [trace, folder, ...queries] = process.argv.slice(2)

// Of Perfetto's protos/perfetto/trace_processor/trace_processor.proto, what is needed here.
const { root } = protobuf.parse(`
  syntax = "proto2";
  message Append { optional string error = 2; }
  message Query { optional string sql_query = 1; }
  message Result {
    message Batch {
      repeated int32 cells = 1 [packed = true]; repeated int64 varint_cells = 2 [packed = true];
      repeated double float64_cells = 3 [packed = true]; optional string string_cells = 5;
      optional bool is_last_batch = 6;
    }
    repeated string column_names = 1; optional string error = 2; repeated Batch batch = 3;
  }
  message Rpc {
    optional int64 seq = 1; optional int32 request = 2; optional int32 response = 3; optional string fatal_error = 5;
    optional bytes append_trace_data = 101; optional Query query_args = 103;
    optional Append append_result = 201; optional Result query_result = 203;
  }
  message Stream { repeated Rpc msg = 1; }`)
const Stream = root.lookupType('Stream')
const APPEND = 1, FINALIZE = 2, QUERY = 3
const VARINT = 2, FLOAT64 = 3, STRING = 4 // of a cell; 1: null

// What the engine wants of a worker in a browser.
process.type = 'renderer' // not Node, the engine shall think
globalThis.self = globalThis
globalThis.WorkerGlobalScope = class {}
globalThis.importScripts = () => {}
globalThis.location = { href: 'file:///engine_bundle.js' }
globalThis.XMLHttpRequest = class {
  status = 200
  open(method, url) {
    this.url = url
  }
  send() {
    this.response = new Uint8Array(readFileSync(join(folder, this.url))).buffer
  }
}
console.log = console.error
runInThisContext(readFileSync(join(folder, 'engine_bundle.js'), 'utf8'))

const replies = []
let wake = () => {}
const port = { postMessage: (bytes) => { replies.push(...Stream.decode(bytes).msg); wake() } }
self.onmessage({ data: port })

let seq = 0
async function ask(message, done) {
  const bytes = Stream.encode({ msg: [{ seq: seq++, ...message }] }).finish()
  port.onmessage({ data: new Uint8Array(bytes) })
  for (;;) {
    while (!replies.length) await new Promise((resolve) => { wake = resolve })
    const reply = replies.shift()
    const error = reply.fatalError || reply.appendResult?.error || reply.queryResult?.error
    if (error) throw new Error(error)
    if (done(reply)) return
  }
}

function read(result, cells) {
  for (const batch of result.batch) {
    const strings = (batch.stringCells || '').split('\0')
    let [varint, float64, string] = [0, 0, 0]
    for (const kind of batch.cells) {
      if (kind === VARINT) cells.push(Number(batch.varintCells[varint++]))
      else if (kind === FLOAT64) cells.push(batch.float64Cells[float64++])
      else if (kind === STRING) cells.push(strings[string++])
      else cells.push(null)
    }
  }
}

await new Promise(setImmediate) // the engine has loaded its WebAssembly by then, as behind a worker's first message
await ask({ request: APPEND, appendTraceData: readFileSync(trace) }, (reply) => reply.appendResult)
await ask({ request: FINALIZE }, () => true)
const answers = []
for (const sqlQuery of queries) {
  const cells = []
  let columns = 0
  await ask({ request: QUERY, queryArgs: { sqlQuery } }, ({ queryResult }) => {
    columns ||= queryResult.columnNames.length
    read(queryResult, cells)
    return queryResult.batch.some((batch) => batch.isLastBatch)
  })
  answers.push(Array.from({ length: cells.length / columns }, (_, i) => cells.slice(i * columns, (i + 1) * columns)))
}
process.stdout.write(JSON.stringify(answers) + '\n', () => process.exit(0))
