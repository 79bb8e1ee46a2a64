// One upload with tus-js-client, as JSON orders it: node upload.mjs '{"endpoint": "...", "source": "file", ...}'
//
// order.kind        what the source is for the client: "file" (default), "buffer", "stream"
// order.options     options of tus.Upload
// order.urls        a file in which to remember URLs; order.resume: look there for a previous upload
// order.abortAt     abort once so many bytes are accepted; order.terminate: and have the server forget them
//
// Every line that it prints is an event: response, retry, accepted, aborted, success, failure.

import fs from 'node:fs'
import { Readable } from 'node:stream'
import * as tus from 'tus-js-client'

const order = JSON.parse(process.argv[2])
const say = (event, detail = {}) => fs.writeSync(1, JSON.stringify({ event, ...detail }) + '\n')

const sources = {
  file: (path) => fs.createReadStream(path),
  buffer: (path) => fs.readFileSync(path),
  // Not a file for the client: it can be read once, and only forwards.
  stream: (path) => Readable.from(fs.createReadStream(path, { highWaterMark: 100_000 }), { objectMode: false }),
}

const upload = new tus.Upload(sources[order.kind ?? 'file'](order.source), {
  endpoint: order.endpoint,
  chunkSize: 2 ** 20,
  retryDelays: Array(60).fill(100),
  ...(order.urls ? { urlStorage: new tus.FileUrlStorage(order.urls) } : {}),
  ...order.options,
  onAfterResponse(request, response) {
    say('response', {
      method: request.getMethod(),
      url: request.getURL(),
      status: response.getStatus(),
      offset: response.getHeader('Upload-Offset'),
      sent: {
        offset: request.getHeader('Upload-Offset'),
        length: request.getHeader('Upload-Length'),
        deferred: request.getHeader('Upload-Defer-Length'),
        concat: request.getHeader('Upload-Concat'),
      },
    })
  },
  onShouldRetry(error, attempt) {
    const status = error.originalResponse ? error.originalResponse.getStatus() : 0
    const again = status === 0 || status === 409 || status === 423 || status >= 500
    say('retry', { status, attempt, again })
    return again
  },
  async onChunkComplete(_, accepted) {
    say('accepted', { offset: accepted })
    if (order.abortAt && accepted >= order.abortAt) {
      order.abortAt = 0
      await upload.abort(order.terminate ?? false)
      say('aborted', { url: upload.url })
    }
  },
  onSuccess() {
    say('success', { url: upload.url })
  },
  onError(error) {
    say('failure', { message: error.message })
    process.exitCode = 1
  },
})

if (order.resume) {
  const [previous] = await upload.findPreviousUploads()
  upload.resumeFromPreviousUpload(previous)
}
upload.start()
