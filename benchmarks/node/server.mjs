// @tus/server as its README starts it, on the store that the one argument names: {"folder"} or {"endpoint", "bucket"}.

import { FileStore } from '@tus/file-store'
import { S3Store } from '@tus/s3-store'
import { Server } from '@tus/server'

const { folder, endpoint, bucket, partSize } = JSON.parse(process.argv[2])

const datastore = folder
  ? new FileStore({ directory: folder })
  : new S3Store({ partSize, s3ClientConfig: { bucket, endpoint, region: 'us-east-1', forcePathStyle: true } })

const listener = new Server({ path: '/files', datastore }).listen({ host: '127.0.0.1', port: 0 }, () => {
  console.log(`listening on http://127.0.0.1:${listener.address().port}/files`)
})
