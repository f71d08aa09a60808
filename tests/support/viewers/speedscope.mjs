// Opens a profile in the speedscope that a browser would run, and prints what it shows: its profiles with
// their total weights, and the first frame of the sandwich view.
import { readFileSync, readdirSync } from 'node:fs'
import { JSDOM, VirtualConsole } from 'jsdom'

const release = 'node_modules/speedscope/dist/release'
const script = readdirSync(release).find((name) => /^speedscope-.*\.js$/.test(name))
const { window } = new JSDOM('<body></body>', {
  url: 'http://localhost/#localProfilePath=/none&view=sandwich',
  runScripts: 'outside-only',
  pretendToBeVisual: true,
  virtualConsole: new VirtualConsole(), // what jsdom lacks is of no interest
})
// for drawing, which nobody sees
const anything = new Proxy(() => {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => 1 : anything),
  apply: () => anything,
})
window.HTMLCanvasElement.prototype.getContext = () => anything
window.Element.prototype.scrollIntoView = window.Element.prototype.scrollTo = () => {}
window.matchMedia = () => ({ matches: false, addListener() {}, addEventListener() {} })
Object.assign(window, { TextDecoder, TextEncoder })

async function until(what) {
  for (const end = Date.now() + 20000; Date.now() < end; ) {
    if (what()) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  throw new Error('speedscope shows nothing')
}

const rows = () =>
  [...window.document.querySelectorAll('tr')]
    .map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))
    .filter((cells) => cells.length === 3)
const found = new Map()
window.console.log = () => {}
window.eval(readFileSync(`${release}/${script}`, 'utf8'))
await until(() => window.speedscope)
window.speedscope.loadFileFromBase64('profile.json', readFileSync(process.argv[2]).toString('base64'))
await until(() => rows().some((cells) => cells[0].includes('%')))
for (const cells of rows()) found.set(cells.join(), cells)
console.log(JSON.stringify({ title: window.document.title, rows: [...found.values()] }))
process.exit(0)
